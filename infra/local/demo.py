def play(o): print(o)
