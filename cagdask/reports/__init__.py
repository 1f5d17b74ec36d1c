"""What people open: tables of a result, figures, and the HTML page."""
