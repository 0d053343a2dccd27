"""What is known of the server behind: is it there, how is it, which tools does it have."""
