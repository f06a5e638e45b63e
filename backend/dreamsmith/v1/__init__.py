# SPDX-License-Identifier: Apache-2.0
"""The API's messages, made from ``protos/dreamsmith/v1`` by ``hatch_build.py`` at installation."""
