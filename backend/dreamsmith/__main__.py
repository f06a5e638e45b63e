# SPDX-License-Identifier: Apache-2.0
"""``python -m dreamsmith`` is ``dreamsmith``."""

from dreamsmith.cli import main

main()
