"""What media nodes say of themselves, and whether they live."""
