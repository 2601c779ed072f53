"""Items like an item: a small second model of item embeddings and co-clicks, under the rules of all models."""
