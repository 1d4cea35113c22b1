package workspaces

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"io"
	"strconv"
	"time"

	"carrel/internal/clock"
)

// tokenLife is how long a NextToken is good for (DescribeWorkspaceBundles: one day).
const tokenLife = 24 * time.Hour

// maxPage is the largest page of every paged operation, and the size when the caller names none.
const maxPage = 25

// pager makes and reads NextTokens. A token is the id after which the next page begins and the time until which the token is
// good, sealed with AES-GCM; operation, account and filters are authenticated with it. The client controls the text: a token
// that was changed, comes from another query or is too old is refused, so that nobody walks one query's list with another's
// position.
type pager struct {
	aead    cipher.AEAD
	rand    io.Reader
	clock   clock.Clock
	account string
}

func newPager(d Deps) pager {
	block, err := aes.NewCipher(d.TokenKey[:])
	if err != nil {
		panic("workspaces: " + err.Error()) // only for a key of another length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("workspaces: " + err.Error()) // only for a block of another size
	}
	return pager{aead: aead, rand: d.Rand, clock: d.Clock, account: d.Account}
}

// query is what a token is bound to: the operation first, then its filters in a fixed order.
type query []string

// bytes writes the query and the account so that no two differ only in where one part ends.
func (p pager) bytes(q query) []byte {
	b := strconv.AppendQuote(make([]byte, 0, 128), p.account)
	for _, part := range q {
		b = strconv.AppendQuote(b, part)
	}
	return b
}

// seal gives the token for the page after the id last, nil when last is empty.
func (p pager) seal(q query, last string) *string {
	if last == "" {
		return nil
	}
	size := p.aead.NonceSize()
	b := make([]byte, size, size+8+len(last)+p.aead.Overhead())
	if _, err := io.ReadFull(p.rand, b); err != nil {
		panic("workspaces: no randomness: " + err.Error())
	}
	plain := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(last)), uint64(p.clock.Now().Add(tokenLife).Unix()))
	plain = append(plain, last...)
	token := base64.RawURLEncoding.EncodeToString(p.aead.Seal(b, b, plain, p.bytes(q)))
	return &token
}

// open gives the id after which the page begins: "" without a token.
func (p pager) open(q query, token *string) (string, error) {
	if token == nil {
		return "", nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(*token)
	size := p.aead.NonceSize()
	if err != nil || len(b) < size {
		return "", errToken()
	}
	plain, err := p.aead.Open(nil, b[:size], b[size:], p.bytes(q))
	if err != nil || len(plain) < 9 {
		return "", errToken()
	}
	if until := int64(binary.BigEndian.Uint64(plain)); p.clock.Now().Unix() > until {
		return "", errToken()
	}
	return string(plain[8:]), nil
}

// pageSize is the size that the caller asks for. The model bounds it to 1-25; a size outside is cut rather than trusted.
func pageSize(n *int32) int {
	if n == nil {
		return maxPage
	}
	return min(max(int(*n), 1), maxPage)
}
