"""``python -m app`` is ``tidings``."""

from app.cli import main

main()
