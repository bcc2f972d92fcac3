/* SPDX-License-Identifier: MIT */
#include "ring.c"
