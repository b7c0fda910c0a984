"""Code of users: whose it is, how it is imported and trusted, and how its errors are reported."""
