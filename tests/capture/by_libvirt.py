def test(*a): return 77
INSIDE="X"
