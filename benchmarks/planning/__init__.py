"""Planning against its peers and against central differences."""
