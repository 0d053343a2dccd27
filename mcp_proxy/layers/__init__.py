"""Whether, when and how often to ask on: one file, one class, one layer.

All have the signature of `chain.Layer`; none knows its neighbours. docs/order.md says why they
stand in the order in which assembly.py lists them.
"""
