// Package audit holds the record of every API call, shaped as AWS CloudTrail shapes it, in hash-chained files whose digests are
// signed into the evidence log.
//
// It refuses to decide what is audited (the door does), to drop a record, and to hold a value that a model calls sensitive.
//
// # Format
//
// Files are DIR/YYYY/MM/DD/NNNNNNNNNNNNNNNNNNNN.jsonl: the UTC day on which the file was begun and, in twenty digits, the sequence
// of its first record, so that names sort in the order of the chain. Each line is
//
//	{"chain":{"sequence":1,"previous":"<64 hex>","hash":"<64 hex>"},"record":{...}}
//
// sequence starts at 1 and grows by one through all files. previous is the hash of the record before, in whichever file; 64 zeros
// for the first. hash is the SHA-256 of "carrel-audit-v1\x00", the sequence in 8 bytes big endian, the 32 raw bytes of previous,
// and the bytes of the record's JSON as they stand in the line.
//
// The chain has no key: whoever can write the files can make another chain. What holds it are the audit-digest records of the
// evidence log (see Digest), signed at every new file, periodically and at the end. Records behind the last digest are only as
// safe as the files; Report.Unsigned counts them.
package audit

import (
	"encoding/json"
	"errors"
	"time"
)

// Record is one API call. The members' names, meaning and limits are those of the CloudTrail record contents, eventVersion 1.11;
// constant members (eventType, managementEvent, eventCategory) are added when it is written.
type Record struct {
	UserIdentity UserIdentity `json:"userIdentity"`
	// EventTime is when the call came in; written in UTC with whole seconds.
	EventTime time.Time `json:"eventTime"`
	// EventSource is the service (`workspaces.amazonaws.com`), EventName the operation.
	EventSource string `json:"eventSource"`
	EventName   string `json:"eventName"`
	AWSRegion   string `json:"awsRegion"`
	// SourceIPAddress is the peer's address as the listener saw it, never a header's.
	SourceIPAddress string `json:"sourceIPAddress"`
	// UserAgent is the client's word; cut at 1 KiB.
	UserAgent string `json:"userAgent"`
	// ErrorCode and ErrorMessage are empty when the call succeeded; each is cut at 1 KiB.
	ErrorCode    string `json:"errorCode,omitempty"`
	ErrorMessage string `json:"errorMessage,omitempty"`
	// RequestParameters and ResponseElements are made by Parameters and Elements; the zero Document is null.
	RequestParameters Document `json:"requestParameters"`
	ResponseElements  Document `json:"responseElements"`
	// Decision says how the call was authorised: made by DecisionDocument and written as the member "decision" of additionalEventData,
	// CloudTrail's place for what is not of the request or the answer. The zero Document leaves the member out.
	Decision  Document `json:"-"`
	RequestID string   `json:"requestID"`
	// EventID is a UUID of this record alone.
	EventID            string      `json:"eventID"`
	ReadOnly           bool        `json:"readOnly"`
	RecipientAccountID string      `json:"recipientAccountId"`
	VPCEndpointID      string      `json:"vpcEndpointId,omitempty"`
	TLS                *TLSDetails `json:"tlsDetails,omitempty"`
}

// TLSDetails are of the connection that carried the call.
type TLSDetails struct {
	// Version is as CloudTrail writes it: "TLSv1.3". CipherSuite is the IANA name.
	Version     string `json:"tlsVersion"`
	CipherSuite string `json:"cipherSuite"`
	// ClientProvidedHostHeader is the client's word.
	ClientProvidedHostHeader string `json:"clientProvidedHostHeader,omitempty"`
}

// Document is a JSON value inside a record: one line, valid. Only this package makes one, so that no raw text of a client gets
// into a file. The zero Document is null.
type Document struct{ raw []byte }

// MarshalJSON is the document's text.
func (d Document) MarshalJSON() ([]byte, error) {
	if d.raw == nil {
		return []byte("null"), nil
	}
	return d.raw, nil
}

// UnmarshalJSON takes a value of a record that is read back.
func (d *Document) UnmarshalJSON(data []byte) error {
	d.raw = nil
	if string(data) != "null" {
		d.raw = append([]byte(nil), data...)
	}
	return nil
}

// String is the document's text, "null" for the zero Document.
func (d Document) String() string {
	if d.raw == nil {
		return "null"
	}
	return string(d.raw)
}

const maxText = 1024

// UnmarshalJSON reads a record as AppendJSON writes it.
func (r *Record) UnmarshalJSON(data []byte) error {
	type plain Record
	w := struct {
		*plain
		Additional struct {
			Decision Document `json:"decision"`
		} `json:"additionalEventData"`
	}{plain: (*plain)(r)}
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	r.Decision = w.Additional.Decision
	return nil
}

// Check reports what every record must have and this one has not.
func (r *Record) Check() error {
	switch {
	case r.EventID == "":
		return errors.New("audit record: no eventID")
	case r.EventName == "" || r.EventSource == "":
		return errors.New("audit record: no eventName or eventSource")
	case r.EventTime.IsZero():
		return errors.New("audit record: no eventTime")
	}
	return nil
}

// AppendJSON appends the record as CloudTrail writes it, on one line, to b.
func (r *Record) AppendJSON(b []byte) []byte {
	b = append(b, `{"eventVersion":"1.11","userIdentity":`...)
	b = r.UserIdentity.append(b)
	b = append(b, `,"eventTime":"`...)
	b = r.EventTime.UTC().AppendFormat(b, time.RFC3339)
	b = append(b, '"')
	b = member(b, "eventSource", r.EventSource)
	b = member(b, "eventName", r.EventName)
	b = member(b, "awsRegion", r.AWSRegion)
	b = member(b, "sourceIPAddress", r.SourceIPAddress)
	b = member(b, "userAgent", cut(r.UserAgent, maxText))
	b = optional(b, "errorCode", cut(r.ErrorCode, maxText))
	b = optional(b, "errorMessage", cut(r.ErrorMessage, maxText))
	b = append(b, `,"requestParameters":`...)
	b = append(b, r.RequestParameters.String()...)
	b = append(b, `,"responseElements":`...)
	b = append(b, r.ResponseElements.String()...)
	if r.Decision.raw != nil {
		b = append(b, `,"additionalEventData":{"decision":`...)
		b = append(b, r.Decision.raw...)
		b = append(b, '}')
	}
	b = member(b, "requestID", r.RequestID)
	b = member(b, "eventID", r.EventID)
	b = flag(b, "readOnly", r.ReadOnly)
	b = append(b, `,"eventType":"AwsApiCall","managementEvent":true`...)
	b = member(b, "recipientAccountId", r.RecipientAccountID)
	b = optional(b, "vpcEndpointId", r.VPCEndpointID)
	b = append(b, `,"eventCategory":"Management"`...)
	if t := r.TLS; t != nil {
		b = append(b, `,"tlsDetails":{"tlsVersion":`...)
		b = text(b, t.Version)
		b = member(b, "cipherSuite", t.CipherSuite)
		b = optional(b, "clientProvidedHostHeader", cut(t.ClientProvidedHostHeader, maxText))
		b = append(b, '}')
	}
	return append(b, '}')
}
