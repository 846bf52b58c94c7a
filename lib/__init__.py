"""Ten posts about deep learning and statistics: the package that their notebooks and the `posts` command use."""
