package identity

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/state"
)

// ErrToken is a token or message that was not sealed here, was changed, or whose key is no more. Which of them is not told.
var ErrToken = errors.New("identity: the token cannot be opened")

// ErrTooLong is what would make a longer token or message than clients can send back.
var ErrTooLong = errors.New("identity: too much to be sealed")

const (
	// maxToken is the longest token, in characters: it travels in a header of each request.
	maxToken = 16 << 10
	// maxMessage is the longest message (encodedMessageType), maxPlain what may come out of one.
	maxMessage, maxPlain = 10240, 1 << 20
)

// What a key seals is bound to one of these purposes: a message is no token.
const (
	forSession = "carrel session token"
	forMessage = "carrel authorization message"
)

// A sealed text begins with the version of its form and the id of its key, both in clear, both authenticated.
const (
	version  = 1
	idBytes  = 6
	keyBytes = 32
	preamble = 1 + idBytes
)

// TokensConfig is what Tokens need. DB and Clock must be set; Rand and Log for all but opening.
type TokensConfig struct {
	DB *state.DB
	// Clock is the one that clients live by, as Authenticator's.
	Clock clock.Clock
	// Rand makes keys and their ids.
	Rand io.Reader
	Log  *slog.Logger
}

// Tokens seals what temporary credentials say into their session token, and opens it again: with AES-256-GCM, under keys that are records, so that
// every node opens what any has sealed, and needs no record of the session. All methods may be called concurrently.
type Tokens struct {
	config TokensConfig

	mu    sync.RWMutex
	aeads map[string]sealer
	// young and old are the opened tokens by their hash, in two generations: when young is full it becomes old, and old is forgotten.
	young, old map[[sha256.Size]byte]opened
}

// sealer is a key set up, and the revision of the record that it was made from.
type sealer struct {
	revision state.Revision
	aead     cipher.AEAD
}

// opened is a session, and the key that has opened it.
type opened struct {
	keyID    string
	revision state.Revision
	session  *Session
}

// generation is how many opened tokens are kept at least; twice as many at most.
const generation = 1024

// NewTokens makes Tokens.
func NewTokens(c TokensConfig) *Tokens { return &Tokens{config: c, aeads: map[string]sealer{}} }

// Seal gives the token of a session, which nobody changes afterwards. ErrTooLong: it says too much. Other errors are of the store, while there is no
// key and none can be made.
func (t *Tokens) Seal(ctx context.Context, s *Session) (string, error) {
	if life := s.Expires.Sub(s.Issued); life > longest {
		return "", fmt.Errorf("identity: a session of %s would outlive the key of its token", life)
	}
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false) // policies hold < and >, and the token should be short
	if err := e.Encode(s); err != nil {
		return "", fmt.Errorf("identity: session %s: %w", s.KeyID, err)
	}
	sealed, err := t.seal(ctx, forSession, plain.Bytes())
	if err != nil {
		return "", err
	}
	token := base64.StdEncoding.EncodeToString(sealed)
	if len(token) > maxToken {
		return "", ErrTooLong
	}
	return token, nil
}

// Open gives the session that Seal was given, also one that has ended: ErrToken for anything else. It is shared: nobody changes it.
func (t *Tokens) Open(token string) (*Session, error) {
	// A decoder that skips line breaks would open several spellings of one token.
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return nil, ErrToken
	}
	snap, name := t.config.DB.Snapshot(), sha256.Sum256([]byte(token))
	if o, ok := t.remembered(name); ok {
		if key, ok := state.Get(snap, state.TokenKeys, o.keyID); ok && key.Revision == o.revision {
			return o.session, nil
		}
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil {
		return nil, ErrToken
	}
	plain, key, err := t.open(snap, forSession, raw)
	if err != nil {
		return nil, err
	}
	s, err := readSession(plain)
	if err != nil {
		return nil, err
	}
	t.remember(name, opened{key.ID, key.Revision, s})
	return s, nil
}

// readSession reads what Seal has written. A member that this version does not know could be a limit, and is not passed over.
func readSession(plain []byte) (*Session, error) {
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	s := new(Session)
	if d.Decode(s) != nil || s.Secret == "" || s.Expires.IsZero() {
		return nil, ErrToken
	}
	if _, err := ident.ParseSessionKeyID(string(s.KeyID)); err != nil {
		return nil, ErrToken
	}
	return s, nil
}

// SealMessage gives the text of an encoded authorization message, of 10240 characters at most: ErrTooLong. It can be opened for a day and a half at
// least.
func (t *Tokens) SealMessage(ctx context.Context, message string) (string, error) {
	if len(message) > maxPlain {
		return "", ErrTooLong
	}
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, flate.BestCompression) // fails for levels that there are not
	_, err := io.WriteString(w, message)
	if err := errors.Join(err, w.Close()); err != nil {
		return "", fmt.Errorf("identity: packing a message: %w", err)
	}
	sealed, err := t.seal(ctx, forMessage, packed.Bytes())
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(sealed)
	if len(text) > maxMessage {
		return "", ErrTooLong
	}
	return text, nil
}

// OpenMessage gives the message that SealMessage was given: ErrToken for any other text.
func (t *Tokens) OpenMessage(text string) (string, error) {
	if len(text) > maxMessage || strings.ContainsAny(text, "\r\n") {
		return "", ErrToken
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return "", ErrToken
	}
	packed, _, err := t.open(t.config.DB.Snapshot(), forMessage, raw)
	if err != nil {
		return "", err
	}
	message, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxPlain+1))
	if err != nil || len(message) > maxPlain {
		return "", ErrToken
	}
	return string(message), nil
}

// seal gives version, key id, nonce and what is sealed.
func (t *Tokens) seal(ctx context.Context, purpose string, plain []byte) ([]byte, error) {
	key, err := t.sealing(ctx)
	if err != nil {
		return nil, err
	}
	aead, err := t.aead(key)
	if err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(key.ID)
	if err != nil {
		return nil, fmt.Errorf("identity: token key %q: %w", key.ID, err)
	}
	head := append([]byte{version}, id...)
	return aead.Seal(head, nil, plain, binding(purpose, head)), nil
}

// open is seal's reverse; it gives the key as well.
func (t *Tokens) open(r state.Reader, purpose string, raw []byte) ([]byte, *state.TokenKey, error) {
	if len(raw) <= preamble || raw[0] != version {
		return nil, nil, ErrToken
	}
	head, sealed := raw[:preamble], raw[preamble:]
	key, ok := state.Get(r, state.TokenKeys, hex.EncodeToString(head[1:]))
	if !ok {
		return nil, nil, ErrToken
	}
	aead, err := t.aead(key)
	if err != nil {
		return nil, nil, ErrToken
	}
	plain, err := aead.Open(nil, nil, sealed, binding(purpose, head))
	if err != nil {
		return nil, nil, ErrToken
	}
	return plain, key, nil
}

// binding is what is authenticated beside the plain text.
func binding(purpose string, head []byte) []byte { return append([]byte(purpose+"\x00"), head...) }

// aead sets a key up, once.
func (t *Tokens) aead(key *state.TokenKey) (cipher.AEAD, error) {
	t.mu.RLock()
	s := t.aeads[key.ID]
	t.mu.RUnlock()
	if s.aead != nil && s.revision == key.Revision {
		return s.aead, nil
	}
	secret, err := base64.StdEncoding.DecodeString(key.Secret.Reveal())
	if err != nil || len(secret) != keyBytes {
		return nil, fmt.Errorf("identity: token key %q is not a key", key.ID)
	}
	defer clear(secret)
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("identity: token key %q: %w", key.ID, err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("identity: token key %q: %w", key.ID, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.aeads) >= maxKeys {
		clear(t.aeads)
	}
	t.aeads[key.ID] = sealer{key.Revision, aead}
	return aead, nil
}

// maxKeys bounds the keys that are set up: there are about as many as days for which they are kept.
const maxKeys = 16

func (t *Tokens) remembered(name [sha256.Size]byte) (opened, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if o, ok := t.young[name]; ok {
		return o, true
	}
	o, ok := t.old[name]
	return o, ok
}

// remember keeps what was opened. Only tokens of ours get here: strangers cannot fill the room.
func (t *Tokens) remember(name [sha256.Size]byte, o opened) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.young == nil || len(t.young) >= generation {
		t.old, t.young = t.young, map[[sha256.Size]byte]opened{}
	}
	t.young[name] = o
}
