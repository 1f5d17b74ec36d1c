"""The tests of cagdask; a package so that they can import :mod:`tests.strategies`."""
