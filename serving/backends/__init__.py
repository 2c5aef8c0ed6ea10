"""What Triton runs a package with: copied into the package when it is built, never imported from here."""
