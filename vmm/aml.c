/* SPDX-License-Identifier: MIT */
/*
 * Writes bytes of the ACPI machine language and resource descriptors.  Knows the encodings, not what
 * they describe.  Source: ACPI specification 6.4, chapters 20 and 6.4.
 */
#include "vmm.h"

#include <string.h>

void vmm_aml_bytes(struct vmm_aml *aml, const void *bytes, uint32_t count)
{
	if (count > aml->room - aml->used) {
		aml->full = true;
		return;
	}
	memcpy(aml->buf + aml->used, bytes, count);
	aml->used += count;
}

void vmm_aml_byte(struct vmm_aml *aml, uint8_t byte)
{
	vmm_aml_bytes(aml, &byte, 1);
}

static void number(struct vmm_aml *aml, uint64_t value, uint32_t bytes)
{
	while (bytes--) {
		vmm_aml_byte(aml, (uint8_t)value);
		value >>= 8;
	}
}

void vmm_aml_name(struct vmm_aml *aml, const char *name4)
{
	vmm_aml_byte(aml, 0x08);
	vmm_aml_bytes(aml, name4, 4);
}

void vmm_aml_integer(struct vmm_aml *aml, uint32_t value)
{
	if (value < 2) {
		vmm_aml_byte(aml, (uint8_t)value);
	} else if (value < 0x100) {
		vmm_aml_byte(aml, 0x0A);
		number(aml, value, 1);
	} else {
		vmm_aml_byte(aml, 0x0C);
		number(aml, value, 4);
	}
}

void vmm_aml_string(struct vmm_aml *aml, const char *text)
{
	vmm_aml_byte(aml, 0x0D);
	vmm_aml_bytes(aml, text, (uint32_t)strlen(text) + 1);
}

static uint32_t hex_of(char c)
{
	return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits and four hexadecimal digits, most significant byte first. */
void vmm_aml_eisa(struct vmm_aml *aml, const char *id7)
{
	uint32_t id = 0, i;

	for (i = 0; i < 3; i++)
		id = id << 5 | (uint32_t)(id7[i] - '@');
	for (i = 3; i < 7; i++)
		id = id << 4 | hex_of(id7[i]);
	vmm_aml_byte(aml, 0x0C);
	for (i = 4; i--;)
		vmm_aml_byte(aml, (uint8_t)(id >> (8 * i)));
}

/* Lengths are always written with four bytes, so that nothing has to move. */
static uint32_t begin(struct vmm_aml *aml)
{
	const uint32_t place = aml->used;

	number(aml, 0, 4);
	return place;
}

void vmm_aml_end(struct vmm_aml *aml, uint32_t place)
{
	const uint32_t bytes = aml->used - place;

	if (aml->full)
		return;
	aml->buf[place] = (uint8_t)(0xC0 | (bytes & 0xF));
	aml->buf[place + 1] = (uint8_t)(bytes >> 4);
	aml->buf[place + 2] = (uint8_t)(bytes >> 12);
	aml->buf[place + 3] = (uint8_t)(bytes >> 20);
}

uint32_t vmm_aml_scope(struct vmm_aml *aml, const char *name4)
{
	uint32_t place;

	vmm_aml_byte(aml, 0x10);
	place = begin(aml);
	vmm_aml_byte(aml, '\\');
	vmm_aml_bytes(aml, name4, 4);
	return place;
}

uint32_t vmm_aml_device(struct vmm_aml *aml, const char *name4)
{
	uint32_t place;

	vmm_aml_byte(aml, 0x5B);
	vmm_aml_byte(aml, 0x82);
	place = begin(aml);
	vmm_aml_bytes(aml, name4, 4);
	return place;
}

uint32_t vmm_aml_package(struct vmm_aml *aml, uint8_t elements)
{
	uint32_t place;

	vmm_aml_byte(aml, 0x12);
	place = begin(aml);
	vmm_aml_byte(aml, elements);
	return place;
}

uint32_t vmm_aml_method(struct vmm_aml *aml, const char *name4)
{
	uint32_t place;

	vmm_aml_byte(aml, 0x14);
	place = begin(aml);
	vmm_aml_bytes(aml, name4, 4);
	vmm_aml_byte(aml, 0); /* no arguments, not serialized */
	return place;
}

/* A buffer tells its size a second time, as an integer: a word here. */
uint32_t vmm_aml_crs(struct vmm_aml *aml)
{
	uint32_t place;

	vmm_aml_name(aml, "_CRS");
	vmm_aml_byte(aml, 0x11);
	place = begin(aml);
	vmm_aml_byte(aml, 0x0B);
	number(aml, 0, 2);
	return place;
}

void vmm_aml_crs_end(struct vmm_aml *aml, uint32_t place)
{
	uint32_t bytes;

	vmm_aml_byte(aml, 0x79);
	vmm_aml_byte(aml, 0);
	if (aml->full)
		return;
	bytes = aml->used - place - 7;
	aml->buf[place + 5] = (uint8_t)bytes;
	aml->buf[place + 6] = (uint8_t)(bytes >> 8);
	vmm_aml_end(aml, place);
}

/* Address spaces of memory that children use: fixed ends, read and write. */
static void memory(struct vmm_aml *aml, uint32_t width, uint64_t start, uint64_t bytes)
{
	vmm_aml_byte(aml, width == 8 ? 0x8A : 0x87);
	number(aml, 3u + 5u * width, 2);
	vmm_aml_byte(aml, 0);	 /* memory */
	vmm_aml_byte(aml, 0x0C); /* producer, fixed minimum and maximum */
	vmm_aml_byte(aml, 0x01); /* read and write, not cached */
	number(aml, 0, width);
	number(aml, start, width);
	number(aml, start + bytes - 1, width);
	number(aml, 0, width);
	number(aml, bytes, width);
}

void vmm_aml_memory32(struct vmm_aml *aml, uint32_t start, uint32_t bytes)
{
	memory(aml, 4, start, bytes);
}

void vmm_aml_memory64(struct vmm_aml *aml, uint64_t start, uint64_t bytes)
{
	memory(aml, 8, start, bytes);
}

void vmm_aml_io(struct vmm_aml *aml, uint16_t port, uint8_t count)
{
	vmm_aml_byte(aml, 0x47);
	vmm_aml_byte(aml, 1); /* decodes 16 bits */
	number(aml, port, 2);
	number(aml, port, 2);
	vmm_aml_byte(aml, 1);
	vmm_aml_byte(aml, count);
}

void vmm_aml_irq(struct vmm_aml *aml, uint32_t gsi)
{
	vmm_aml_byte(aml, 0x89);
	number(aml, 6, 2);
	vmm_aml_byte(aml, 0x03); /* consumer, edge, active high, exclusive */
	vmm_aml_byte(aml, 1);
	number(aml, gsi, 4);
}
