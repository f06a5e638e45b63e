# SPDX-License-Identifier: Apache-2.0
"""What server and client both speak: jobs as values, and their form in messages."""
