"""What operations need to run the product: it is versioned, tested and delivered with it."""
