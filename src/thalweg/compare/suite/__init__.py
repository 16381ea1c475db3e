"""One strategy against others on many tasks: is it better in general?"""
