"""Types of options that need not be given, as `--help` shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

OPTIONAL = "(optional)"  # in place of "(default: None)"
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=OPTIONAL)]
OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint=OPTIONAL)]
OptionalStr = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint=OPTIONAL)]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint=OPTIONAL)]
