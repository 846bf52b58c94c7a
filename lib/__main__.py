"""`python -m lib` is the `posts` command."""

from lib.cli import main

main()
