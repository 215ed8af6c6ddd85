"""A small DINO for the CPU on the demo set.

vitdet demo dino_vitdet-micro_1000it_demo
"""

_base_ = '../_base_/dino_micro_1000it_demo.py'
