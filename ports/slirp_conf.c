/* SPDX-License-Identifier: MIT */
/* Texts of the slirp port's options: the network, and ports that lead into the guest. */
#include "slirp/slirp.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define NETWORK_DEFAULT "10.0.2.0/24"
#define ADDRESS_MAX 15u /* characters */

/* Digits up to end, or to the text's end; -1: something else is there, or it is past max. */
static long number(const char **text, char end, long max)
{
	const char *at = *text;
	long n = 0;

	if (*at < '0' || *at > '9')
		return -1;
	while (*at >= '0' && *at <= '9') {
		n = n * 10 + (*at++ - '0');
		if (n > max)
			return -1;
	}
	if (*at != end)
		return -1;
	*text = end ? at + 1 : at;
	return n;
}

/* An address up to end, and past it; nothing leaves what is there. */
static int address(const char **text, char end, struct in_addr *address)
{
	const char *const stop = strchr(*text, end);
	const size_t len = stop ? (size_t)(stop - *text) : 0;
	char buf[ADDRESS_MAX + 1];

	if (!stop || len > ADDRESS_MAX)
		return VMBUS_E_INVAL;
	memcpy(buf, *text, len);
	buf[len] = '\0';
	*text = stop + 1;
	return len == 0 || inet_pton(AF_INET, buf, address) == 1 ? 0 : VMBUS_E_INVAL;
}

int vmbus__slirp_network(const char *text, struct vmbus__slirp_net *net)
{
	struct in_addr network = { 0 };
	long bits;

	if (!text)
		text = NETWORK_DEFAULT;
	if (address(&text, '/', &network) || !network.s_addr)
		return VMBUS_E_INVAL;
	bits = number(&text, '\0', 28);
	if (bits < 8)
		return VMBUS_E_INVAL;
	net->network = ntohl(network.s_addr);
	net->mask = ~(UINT32_MAX >> bits);
	if (net->network & ~net->mask)
		return VMBUS_E_INVAL;
	net->host = net->network + 2;
	net->nameserver = net->network + 3;
	/* In the smallest network 15 is the address for all. */
	net->guest = net->network + (bits == 28 ? 4 : 15);
	return 0;
}

int vmbus__slirp_forward(const char *text, const struct vmbus__slirp_net *net,
			 struct vmbus__slirp_forward *forward)
{
	long host_port, guest_port;

	forward->udp = strncmp(text, "udp:", 4) == 0;
	if (!forward->udp && strncmp(text, "tcp:", 4) != 0)
		return VMBUS_E_INVAL;
	text += 4;
	forward->host.s_addr = htonl(INADDR_LOOPBACK);
	forward->guest.s_addr = htonl(net->guest);
	if (address(&text, ':', &forward->host))
		return VMBUS_E_INVAL;
	host_port = number(&text, '-', UINT16_MAX);
	if (host_port <= 0 || address(&text, ':', &forward->guest))
		return VMBUS_E_INVAL;
	guest_port = number(&text, '\0', UINT16_MAX);
	if (guest_port <= 0)
		return VMBUS_E_INVAL;
	forward->host_port = (uint16_t)host_port;
	forward->guest_port = (uint16_t)guest_port;
	return (ntohl(forward->guest.s_addr) & net->mask) == net->network ? 0 : VMBUS_E_INVAL;
}
