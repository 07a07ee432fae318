"""Suites that every implementation of a contract must pass, ours and those of third parties."""

import pytest

pytest.register_assert_rewrite("reefknot.testing.conformance.store")
