"""`python -m gradslam_ng`."""

import sys

from gradslam_ng.cli import main

sys.exit(main())
