#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs CRIU on a machine that withholds CAP_SYS_RESOURCE. runc talks to it by a socket that it inherits.
LD_PRELOAD=/usr/lib/cryopod/criu-rlimit.so exec /usr/lib/cryopod/criu "$@"
