"""The consultation data set and the code that writes it from the knowledge tables."""
