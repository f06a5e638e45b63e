# SPDX-License-Identifier: GPL-3.0-or-later
"""What arrived, put into the open file: meshes, materials, pictures."""
