"""Quality diversity: archives of good and different bodies, around pyribs, usable without Lightning.

``archive`` keeps the best body of each cell, ``search`` finds bodies, ``descriptors`` and ``fitness`` say
what is different and what is good of planar arms, ``arms`` measures both.
"""
