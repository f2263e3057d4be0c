"""What `tidings demo` shows: an invented shop to click in, and the email that follows each click."""
