"""The ideas of the papers, one module each, usable on their own: no knowledge of posts, profiles, files or notebooks."""
