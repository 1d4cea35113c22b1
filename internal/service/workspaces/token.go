package workspaces

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"io"
	"sync"
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

// append writes the query and the account, each part with its length, so that no two differ only in where one part ends.
func (p pager) append(b []byte, q query) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(p.account))), p.account...)
	for _, part := range q {
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	return b
}

// usual is room for what a query and a token usually need.
const usual = 192

// scratch is memory that a token is made in, used again for the next.
type scratch struct{ sealed, plain, bound, text [usual]byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// seal gives the token for the page after the id last, nil when last is empty.
func (p pager) seal(q query, last string) *string {
	if last == "" {
		return nil
	}
	m := scratches.Get().(*scratch)
	defer scratches.Put(m)
	b := m.sealed[:p.aead.NonceSize()]
	if _, err := io.ReadFull(p.rand, b); err != nil {
		panic("workspaces: no randomness: " + err.Error())
	}
	what := binary.BigEndian.AppendUint64(m.plain[:0], uint64(p.clock.Now().Add(tokenLife).Unix()))
	b = p.aead.Seal(b, b, append(what, last...), p.append(m.bound[:0], q))
	// Not the alphabet for URLs: to the AWS CLI a value that begins with a hyphen is an option.
	token := string(base64.RawStdEncoding.AppendEncode(m.text[:0], b))
	return &token
}

// open gives the id after which the page begins: "" without a token.
func (p pager) open(q query, token *string) (string, error) {
	if token == nil {
		return "", nil
	}
	b, err := base64.RawStdEncoding.Strict().DecodeString(*token)
	size := p.aead.NonceSize()
	if err != nil || len(b) < size {
		return "", errToken()
	}
	plain, err := p.aead.Open(nil, b[:size], b[size:], p.append(make([]byte, 0, usual), q))
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
