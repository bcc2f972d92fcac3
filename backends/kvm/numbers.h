/* SPDX-License-Identifier: MIT */
/*
 * Numbers of registers, and where a message-signalled interrupt goes.
 */
#ifndef VMBUS_KVM_NUMBERS_H
#define VMBUS_KVM_NUMBERS_H

#define MSR_TSC 0x10u /* the processor's own counter */

/* Of the partition, [HV-MSR]. */
#define MSR_GUEST_OS_ID 0x40000000u
#define MSR_HYPERCALL 0x40000001u
#define MSR_VP_INDEX 0x40000002u
#define MSR_RESET 0x40000003u
#define MSR_TIME_REF_COUNT 0x40000020u
#define MSR_REFERENCE_TSC 0x40000021u
#define MSR_CRASH_P0 0x40000100u
#define CRASH_PARAMS 5u
#define MSR_CRASH_CTL 0x40000105u
#define MSR_TSC_INVARIANT 0x40000118u

/* Of a virtual processor, [SYNIC-MSR]. */
#define MSR_VP_ASSIST 0x40000073u
#define MSR_SCONTROL 0x40000080u
#define MSR_SIEFP 0x40000082u
#define MSR_SIMP 0x40000083u
#define MSR_SINT0 0x40000090u
#define SINT_VECTOR 0xFFu
#define SINT_VECTOR_MIN 16u
#define SINT_MASKED ((uint64_t)1 << 16)
#define SINT_POLLING ((uint64_t)1 << 18)

#define REFERENCE_NS 100u /* one tick of reference time, [HV-TSC] */

#define MSI_ADDRESS 0xFEE00000u /* of the local APICs; the id is in bits 12 to 19 */
#define MSI_ID_SHIFT 12

#endif
