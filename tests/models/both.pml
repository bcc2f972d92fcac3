/* SPDX-License-Identifier: MIT */
/*
 * WAKE, SLEEP, DATA and FREE together: the sender sleeps when it lacks room, the reader sleeps when
 * it lacks data.  The two must never sleep at once while packets are left.  The processes are those
 * of sleep.pml; its header names properties and switches.
 */
#define READER_SLEEPS

#include "sleep.pml"
