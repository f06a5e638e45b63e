# SPDX-License-Identifier: Apache-2.0
"""Score distillation: estimators, noise levels, the loss, and the learned score of VSD."""
