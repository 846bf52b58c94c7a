"""Planted mistakes, a module a post: each is put into a copy of the project, and a test of that copy must notice it.

A module has `TESTS`, the test file of each source file that it changes, and `MISTAKES`: by what is wrong, the file, what
is there (once), what is planted for it, and the name of the test that must notice.
"""
