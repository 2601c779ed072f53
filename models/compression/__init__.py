"""Smaller and faster versions of a model, each kept only if it ranks as well as the one it was made from."""
