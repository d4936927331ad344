"""What comes in: reports of how calls sound, in the forms in which others send them."""
