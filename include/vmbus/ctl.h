/* SPDX-License-Identifier: MIT */
/*
 * Control messages: what parent and child post to each other to offer, describe, open, close and
 * withdraw channels.  This layer turns bytes into structs and back; what an order of messages means
 * is the business of the machines in srv.h and cli.h.
 *
 * Concepts and sources of the facts: vmbus_wire(7), vmbus_channel(7).  Nothing here needs a C
 * library.
 */
#ifndef VMBUS_CTL_H
#define VMBUS_CTL_H

#include <vmbus/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMBUS_CTL_BYTES_MAX 240u  /* of one control message, header included, [CTL-HEADER] */
#define VMBUS_RELID_MAX 2047u	  /* relids are 1 to this, [CTL-OFFER] */
#define VMBUS_VP_NONE 0xFFFFFFFFu /* target VP of a channel that wants no interrupts, [CTL-OPEN] */
#define VMBUS_MONITOR_NONE 255u	  /* monitor id of a channel without one, [CTL-OFFER] */
#define VMBUS_STATUS_OK 0u
#define VMBUS_STATUS_FAILED 0x8000FFFFu	 /* the generic failure, [CTL-STATUS] */
#define VMBUS_STATUS_REFUSED 0xC0000236u /* connection refused, [CTL-STATUS] */

/* Versions of the protocol, [CTL-VERSION]: major << 16 | minor. */
#define VMBUS_PROTO_2_4 0x00020004u
#define VMBUS_PROTO_3_0 0x00030000u
#define VMBUS_PROTO_4_0 0x00040000u
#define VMBUS_PROTO_4_1 0x00040001u
#define VMBUS_PROTO_5_0 0x00050000u
#define VMBUS_PROTO_5_1 0x00050001u
#define VMBUS_PROTO_5_2 0x00050002u
#define VMBUS_PROTO_5_3 0x00050003u
#define VMBUS_PROTO_6_0 0x00060000u

/* Features of version 6.0, [CTL-FEATURES]. */
#define VMBUS_FEATURE_SIGNAL_PARAMS 0x01u
#define VMBUS_FEATURE_REDIRECT 0x02u
#define VMBUS_FEATURE_MODIFY_CONNECTION 0x04u
#define VMBUS_FEATURE_CLIENT_ID 0x08u
#define VMBUS_FEATURE_CONFIDENTIAL 0x10u
#define VMBUS_FEATURE_PAUSE 0x20u
#define VMBUS_FEATURE_SERVER_MONITOR 0x40u
#define VMBUS_FEATURE_PINNING 0x80u

/* Connection ids that messages are posted to, [CTL-CONNID]. */
#define VMBUS_CONN_MESSAGE 1u /* every version below 5.0, and the usual answer of later ones */
#define VMBUS_CONN_CONTACT 4u /* INITIATE_CONTACT of 5.0 and later */
#define VMBUS_SINT_MESSAGE 2u /* the SINT of messages and event flags, unless chosen, [CTL-SINT] */
#define VMBUS_MSG_TYPE_CTL 1u /* SynIC message type of every control message, [CTL-HEADER] */

/* Flags of an offer, [CTL-OFFER]. */
#define VMBUS_OFFER_ENUMERATE 0x0001u
#define VMBUS_OFFER_PIPE 0x0010u
#define VMBUS_OFFER_TLNPI 0x2000u /* hv_sock */

/* A GUID as it lies on the wire: u32, u16, u16 little-endian, then 8 bytes in order. */
struct vmbus_guid {
	uint8_t b[16];
};

/* The bytes of a GUID from its five written groups, as initialiser. */
#define VMBUS_GUID(a, b0, c, d0, d1, e0, e1, e2, e3, e4, e5)                                       \
	{                                                                                          \
		{                                                                                  \
			(uint8_t)((a)&255u), (uint8_t)((a) >> 8 & 255u),                           \
				(uint8_t)((a) >> 16 & 255u), (uint8_t)((a) >> 24 & 255u),          \
				(uint8_t)((b0)&255), (uint8_t)((b0) >> 8 & 255),                   \
				(uint8_t)((c)&255), (uint8_t)((c) >> 8 & 255), d0, d1, e0, e1, e2, \
				e3, e4, e5                                                         \
		}                                                                                  \
	}

/* Types of message, [CTL-TYPE]. */
enum vmbus_ctl_type {
	VMBUS_CTL_OFFER = 1,
	VMBUS_CTL_RESCIND = 2,
	VMBUS_CTL_REQUEST_OFFERS = 3,
	VMBUS_CTL_ALL_OFFERS = 4,
	VMBUS_CTL_OPEN = 5,
	VMBUS_CTL_OPEN_RESULT = 6,
	VMBUS_CTL_CLOSE = 7,
	VMBUS_CTL_GPADL_HEADER = 8,
	VMBUS_CTL_GPADL_BODY = 9,
	VMBUS_CTL_GPADL_CREATED = 10,
	VMBUS_CTL_GPADL_TEARDOWN = 11,
	VMBUS_CTL_GPADL_TORNDOWN = 12,
	VMBUS_CTL_RELID_RELEASED = 13,
	VMBUS_CTL_CONTACT = 14,
	VMBUS_CTL_VERSION_RESPONSE = 15,
	VMBUS_CTL_UNLOAD = 16,
	VMBUS_CTL_UNLOAD_RESPONSE = 17,
	VMBUS_CTL_OPEN_RESERVED = 18,
	VMBUS_CTL_CLOSE_RESERVED = 19,
	VMBUS_CTL_CLOSE_RESERVED_RESPONSE = 20,
	VMBUS_CTL_TL_CONNECT = 21,
	VMBUS_CTL_MODIFY = 22,
	VMBUS_CTL_TL_RESULT = 23,
	VMBUS_CTL_MODIFY_RESPONSE = 24,
	VMBUS_CTL_MODIFY_CONNECTION = 25,
	VMBUS_CTL_MODIFY_CONNECTION_RESPONSE = 26,
	VMBUS_CTL_PAUSE = 27,
	VMBUS_CTL_PAUSE_RESPONSE = 28,
	VMBUS_CTL_RESUME = 29
};
#define VMBUS_CTL_TYPES 30u /* numbers from 1 to below this one exist */

/* OFFER: everything that the child learns of a channel, [CTL-OFFER]. */
struct vmbus_ctl_offer {
	struct vmbus_guid class_id;    /* interface type */
	struct vmbus_guid instance_id; /* unique per device */
	uint16_t flags;		       /* VMBUS_OFFER_* */
	uint16_t mmio_mb;
	uint16_t mmio_mb_optional;
	uint16_t sub_index; /* 0: primary channel */
	uint32_t relid;
	uint8_t monitor_id; /* VMBUS_MONITOR_NONE without a monitor */
	uint8_t monitored;
	uint16_t dedicated; /* a connection id of its own */
	uint32_t conn_id;   /* for signal event */
	uint8_t user[120];
};

/* OPEN in both forms, and OPEN_RESERVED, [CTL-OPEN] [CTL-RESERVED]. */
struct vmbus_ctl_open {
	uint32_t relid;
	uint32_t open_id;
	uint32_t gpadl; /* of the rings */
	uint32_t target_vp;
	uint32_t target_sint;	  /* OPEN_RESERVED only */
	uint32_t downstream_page; /* first page of the parent-to-child ring */
	uint32_t conn_id;	  /* long form only */
	uint16_t event_flag;	  /* long form only */
	uint16_t redirect;	  /* long form only */
	uint8_t user[120];
};

/* GPADL_HEADER and GPADL_BODY, [CTL-GPADL].  The qwords are a private copy. */
struct vmbus_ctl_gpadl {
	uint32_t relid; /* HEADER only */
	uint32_t gpadl;
	uint32_t range_bytes; /* HEADER only: bytes of the whole range list */
	uint32_t range_count; /* HEADER only */
	uint32_t count;	      /* qwords in this message */
	uint32_t reserved;
	uint64_t qwords[28];
};

/* CONTACT and VERSION_RESPONSE, [CTL-CONTACT]. */
struct vmbus_ctl_contact {
	uint32_t version;
	uint32_t target_vp;
	uint64_t interrupt_page; /* below 5.0 */
	uint32_t features;	 /* 6.0 */
	uint8_t target_sint;	 /* 5.0 and later */
	uint8_t target_vtl;	 /* 5.1 and later */
	uint8_t has_client_id;	 /* the long form */
	uint8_t reserved;
	uint64_t monitor_p2c;
	uint64_t monitor_c2p;
	struct vmbus_guid client_id;
};
struct vmbus_ctl_version {
	uint8_t supported;
	uint8_t state; /* 0 ok, 1 low resources, 2 unknown failure */
	uint16_t reserved;
	uint32_t conn_id;  /* 5.0 and later: post here from now on; below: the version */
	uint32_t features; /* 6.0, supported */
	uint32_t form;	   /* decoded: bytes of the form, 16, 20 or 40; encode picks it if 0 */
	uint64_t monitor_p2c;
	uint64_t monitor_c2p;
};

/* TL_CONNECT and TL_RESULT, [CTL-TL]. */
struct vmbus_ctl_tl {
	struct vmbus_guid endpoint_id;
	struct vmbus_guid service_id;
	struct vmbus_guid silo_id; /* long form of TL_CONNECT only */
	uint32_t has_silo;
	uint32_t status; /* TL_RESULT only */
};

/* One message, decoded.  Which member of u counts follows from type. */
struct vmbus_ctl {
	uint32_t type; /* enum vmbus_ctl_type */
	uint32_t reserved;
	union {
		struct vmbus_ctl_offer offer;
		struct vmbus_ctl_open open;   /* OPEN, OPEN_RESERVED */
		struct vmbus_ctl_gpadl gpadl; /* HEADER, BODY */
		struct vmbus_ctl_contact contact;
		struct vmbus_ctl_version version;
		struct vmbus_ctl_tl tl;
		struct { /* OPEN_RESULT */
			uint32_t relid, open_id, status;
		} result;
		struct { /* GPADL_CREATED, GPADL_TEARDOWN, GPADL_TORNDOWN (gpadl only) */
			uint32_t relid, gpadl, status;
		} created;
		struct { /* MODIFY (target_vp), MODIFY_RESPONSE (status) */
			uint32_t relid, target_vp, status;
		} modify;
		/* CLOSE, RESCIND, RELID_RELEASED, CLOSE_RESERVED_RESPONSE: relid;
		   CLOSE_RESERVED: all */
		struct {
			uint32_t relid, target_vp, target_sint;
		} chan;
		struct { /* MODIFY_CONNECTION, its response (state) */
			uint64_t monitor_p2c, monitor_c2p;
			uint32_t state, reserved;
		} connection;
	} u;
};

/*
 * Read a control message from a private copy of its bytes.
 *
 * bytes    the message, header included.
 * len	    its bytes, as the SynIC message said; longer than the type needs is fine.
 * version  what parent and child agreed on, VMBUS_PROTO_*; 0 before that, when only CONTACT,
 *	    VERSION_RESPONSE, CLOSE_RESERVED and its response have a meaning.
 * features VMBUS_FEATURE_* agreed on.
 * ctl	    on success, the message; members that its form has not are 0.
 *
 * Errors: INVAL  no such type, or none of this version and these features
 *	   RANGE  shorter than the type needs
 * Effect: none on error.
 * Threads: any.
 * Source: [CTL-TYPE] and the section of the type in vmbus_wire(7).
 */
VMBUS_API int vmbus_ctl_decode(const void *bytes, size_t len, uint32_t version, uint32_t features,
			       struct vmbus_ctl *ctl);

/*
 * Write a control message.
 *
 * ctl	    the message.
 * version, features  as for vmbus_ctl_decode(); they choose between the forms, and no type is
 *	    refused for them.
 * buf	    where it goes.
 * bytes    room in buf; VMBUS_CTL_BYTES_MAX is always enough.
 *
 * Returns its length in bytes.
 * Errors: INVAL  no such type
 *	   RANGE  buf is too small; a page list has no or too many qwords; a number is too large for its
 *		  place on the wire; form is no form
 * Effect: none on error.
 * Threads: any.
 * Source: the section of the type in vmbus_wire(7).
 */
VMBUS_API int vmbus_ctl_encode(const struct vmbus_ctl *ctl, uint32_t version, uint32_t features,
			       void *buf, size_t bytes);

/*
 * The name of a message type, for instance "open"; "?" for a number that is none.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API const char *vmbus_ctl_type_name(uint32_t type);

/*
 * Whether two GUIDs are the same; both pointers must be set.
 *
 * Effect: none.
 * Threads: any.
 */
VMBUS_API bool vmbus_guid_equal(const struct vmbus_guid *a, const struct vmbus_guid *b);

/*
 * Read a GUID from text, "f8615163-df3e-46c5-913f-f2d2f965ed0e", braces allowed, any case.
 *
 * text  nothing may stand before or behind the GUID.
 *
 * Errors: INVAL  not of this form
 * Effect: none on error.
 * Threads: any.
 * Source: [GUID] in vmbus_wire(7).
 */
VMBUS_API int vmbus_guid_parse(const char *text, struct vmbus_guid *guid);

/*
 * Write a GUID as 36 characters and a terminator, in lower case and without braces.
 *
 * Effect: none but on buf.
 * Threads: any.
 * Source: [GUID] in vmbus_wire(7).
 */
VMBUS_API void vmbus_guid_format(const struct vmbus_guid *guid, char buf[37]);

/*
 * The name of a device class, for instance "scsi", "hvsock" for a vsock port; NULL for one that we do
 * not know.
 *
 * Effect: none.
 * Threads: any.
 * Source: [CTL-CLASS] in vmbus_wire(7).
 */
VMBUS_API const char *vmbus_class_name(const struct vmbus_guid *class_id);

#ifdef __cplusplus
}
#endif
#endif
