# SPDX-License-Identifier: Apache-2.0
"""Judging priors and assets by judges of their own: a classifier and the true solids."""
