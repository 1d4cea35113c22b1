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
	// ResponseElements of a call that only reads are never written.
	RequestParameters Document `json:"requestParameters"`
	ResponseElements  Document `json:"responseElements"`
	RequestID         string   `json:"requestID"`
	// EventID is a UUID of this record alone.
	EventID            string      `json:"eventID"`
	ReadOnly           bool        `json:"readOnly"`
	RecipientAccountID string      `json:"recipientAccountId"`
	VPCEndpointID      string      `json:"vpcEndpointId,omitempty"`
	TLS                *TLSDetails `json:"tlsDetails,omitempty"`
}

// UserIdentity says who called. Empty members are left out.
type UserIdentity struct {
	// Type is "Root", "IAMUser", "AssumedRole", "AWSService" or "Unknown".
	Type           string          `json:"type"`
	PrincipalID    string          `json:"principalId,omitempty"`
	ARN            string          `json:"arn,omitempty"`
	AccountID      string          `json:"accountId,omitempty"`
	AccessKeyID    string          `json:"accessKeyId,omitempty"`
	UserName       string          `json:"userName,omitempty"`
	SessionContext *SessionContext `json:"sessionContext,omitempty"`
}

// SessionContext describes temporary credentials.
type SessionContext struct {
	SessionIssuer SessionIssuer `json:"sessionIssuer"`
	// CreationDate is when the credentials were issued, MFA whether a second factor was shown for them.
	CreationDate time.Time `json:"creationDate"`
	MFA          bool      `json:"mfaAuthenticated"`
}

// SessionIssuer is the role or user for whom temporary credentials were issued.
type SessionIssuer struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId"`
	ARN         string `json:"arn"`
	AccountID   string `json:"accountId"`
	UserName    string `json:"userName"`
}

// UnmarshalJSON reads CloudTrail's spelling, where the attributes are strings in an object of their own.
func (s *SessionContext) UnmarshalJSON(data []byte) error {
	var w struct {
		SessionIssuer SessionIssuer `json:"sessionIssuer"`
		Attributes    struct {
			CreationDate     time.Time `json:"creationDate"`
			MFAAuthenticated string    `json:"mfaAuthenticated"`
		} `json:"attributes"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*s = SessionContext{SessionIssuer: w.SessionIssuer, CreationDate: w.Attributes.CreationDate, MFA: w.Attributes.MFAAuthenticated == "true"}
	return nil
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
	if b = append(b, `,"responseElements":`...); r.ReadOnly {
		b = append(b, "null"...)
	} else {
		b = append(b, r.ResponseElements.String()...)
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

func (u *UserIdentity) append(b []byte) []byte {
	b = append(b, `{"type":`...)
	b = text(b, u.Type)
	b = optional(b, "principalId", u.PrincipalID)
	b = optional(b, "arn", u.ARN)
	b = optional(b, "accountId", u.AccountID)
	b = optional(b, "accessKeyId", cut(u.AccessKeyID, maxText))
	b = optional(b, "userName", u.UserName)
	if s := u.SessionContext; s != nil {
		b = append(b, `,"sessionContext":{"sessionIssuer":{"type":`...)
		b = text(b, s.SessionIssuer.Type)
		b = member(b, "principalId", s.SessionIssuer.PrincipalID)
		b = member(b, "arn", s.SessionIssuer.ARN)
		b = member(b, "accountId", s.SessionIssuer.AccountID)
		b = member(b, "userName", s.SessionIssuer.UserName)
		b = append(b, `},"attributes":{"creationDate":"`...)
		b = s.CreationDate.UTC().AppendFormat(b, time.RFC3339)
		if b = append(b, `","mfaAuthenticated":"`...); s.MFA {
			b = append(b, `true"}}`...)
		} else {
			b = append(b, `false"}}`...)
		}
	}
	return append(b, '}')
}
