package cloudtrail

import (
	"encoding/base64"
	"encoding/binary"
	"io"
	"strconv"
	"time"

	"carrel/internal/api/cloudtrail"
	"carrel/internal/api/shape"
	"carrel/internal/audit"
)

// tokenLife is how long a NextToken is good for.
const tokenLife = 24 * time.Hour

// boundTo is what a token is good for: the account and all parameters but the page's size, so that no two differ only in where one part ends.
func boundTo(account string, in *cloudtrail.LookupEventsInput) []byte {
	b := strconv.AppendQuote([]byte("cloudtrail:LookupEvents "), account)
	for _, t := range []*time.Time{in.StartTime, in.EndTime} {
		if t != nil {
			b = strconv.AppendInt(b, t.UnixNano(), 10)
		}
		b = append(b, ',')
	}
	b = strconv.AppendQuote(b, string(shape.Val(in.EventCategory)))
	for _, a := range in.LookupAttributes {
		b = strconv.AppendQuote(b, string(shape.Val(a.AttributeKey)))
		b = strconv.AppendQuote(b, shape.Val(a.AttributeValue))
	}
	return b
}

// positionSize is the length of a token's plain text: the time until which it is good, and the position.
const positionSize = 4 * 8

// seal gives the token for the page that ends at a position: sealed with AES-GCM, and what it is bound to authenticated with it. The client controls
// the text: one that was changed, made up, or given for another query is refused, and nobody learns from one how much others do.
func (s *Service) seal(bound []byte, at audit.Position) *string {
	size := s.aead.NonceSize()
	b := make([]byte, size, size+positionSize+s.aead.Overhead())
	if _, err := io.ReadFull(s.Rand, b); err != nil {
		panic("cloudtrail: no randomness: " + err.Error())
	}
	plain := make([]byte, 0, positionSize)
	for _, n := range []uint64{uint64(s.Clock.Now().Add(tokenLife).Unix()), at.Sequence, at.File, uint64(at.Offset)} {
		plain = binary.BigEndian.AppendUint64(plain, n)
	}
	// Not the alphabet for URLs: to the AWS CLI a value that begins with a hyphen is an option.
	return shape.Ptr(base64.RawStdEncoding.EncodeToString(s.aead.Seal(b, b, plain, bound)))
}

// open gives the position of a token: zero without one.
func (s *Service) open(bound []byte, token *string) (audit.Position, error) {
	if token == nil {
		return audit.Position{}, nil
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(*token)
	size := s.aead.NonceSize()
	if err != nil || len(b) != size+positionSize+s.aead.Overhead() {
		return audit.Position{}, invalidNextToken()
	}
	plain, err := s.aead.Open(nil, b[:size], b[size:], bound)
	if err != nil || s.Clock.Now().Unix() > int64(binary.BigEndian.Uint64(plain)) {
		return audit.Position{}, invalidNextToken()
	}
	return audit.Position{Sequence: binary.BigEndian.Uint64(plain[8:]), File: binary.BigEndian.Uint64(plain[16:]), Offset: int64(binary.BigEndian.Uint64(plain[24:]))}, nil
}
