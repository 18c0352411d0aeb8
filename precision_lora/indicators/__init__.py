"""What each of the five scores looks at; every indicator turns a consultation into findings."""
