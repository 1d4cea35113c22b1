package volume

import (
	"bytes"
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// IEEE 1619-2007, annex B: vectors 4 (AES-128) and 10 (AES-256), the first two blocks of each.
func TestASectorIsEncryptedAsTheStandardSays(t *testing.T) {
	plain := make([]byte, 512)
	for i := range plain {
		plain[i] = byte(i)
	}
	for _, v := range []struct {
		key, want string
		sector    uint64
	}{
		{"27182818284590452353602874713526" + "31415926535897932384626433832795", "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c", 0},
		{"2718281828459045235360287471352662497757247093699959574966967627" + "3141592653589793238462643383279502884197169399375105820974944592",
			"1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b", 0xff},
	} {
		b := bytes.Clone(plain)
		if err := xtsEncrypt(fromHex(t, v.key), v.sector, b); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(b[:32]); got != v.want {
			t.Errorf("sector %d: %s, want %s", v.sector, got, v.want)
		}
	}
}

func TestTheMasterKeyNeedsAllOfTheKeyMaterial(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, luksKeyBytes)
	material := make([]byte, luksKeyBytes*luksStripes)
	_, _ = rand.Read(material)
	luksSplit(material, secret)
	merge := func() []byte {
		d := luksFold(material)
		for i, b := range material[luksKeyBytes*(luksStripes-1):] {
			d[i] ^= b
		}
		return d[:]
	}
	if got := merge(); !bytes.Equal(got, secret) {
		t.Errorf("the stripes give % x", got)
	}
	for _, at := range []int{0, luksKeyBytes * 1234, len(material) - 1} {
		material[at] ^= 1
		if bytes.Equal(merge(), secret) {
			t.Errorf("the stripes give it with one bit at %d changed", at)
		}
		material[at] ^= 1
	}
}

// The master key that the first slot gives is the one whose digest is in the header; test/disks has QEMU say so too.
func TestAHeaderHoldsItsMasterKeyUnderTheKey(t *testing.T) {
	key := []byte("a key")
	b, err := luksHeader(rand.Reader, key)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, key) || len(b) != luksHeaderBytes {
		t.Errorf("%d bytes, or the key is in them", len(b))
	}
	other, err := luksHeader(rand.Reader, key)
	if err != nil || bytes.Equal(b[112:152], other[112:152]) || bytes.Equal(b[168:208], other[168:208]) || bytes.Equal(b[4096:8192], other[4096:8192]) {
		t.Errorf("two headers have the same digest, id or material (%v)", err)
	}
	be := binary.BigEndian
	for i := range luksSlots {
		slot := b[208+48*i:]
		if on := be.Uint32(slot) == luksSlotOn; on != (i == 0) || be.Uint32(slot[40:])*luksSector != uint32(4096+i*258048) {
			t.Errorf("slot %d: % x", i, slot[:48])
		}
	}
	// Unused slots hold nothing.
	if rest := b[luksAlign+luksSlotBytes:]; !bytes.Equal(rest, make([]byte, len(rest))) {
		t.Error("something is in an unused slot")
	}
	// A wrong key gives another master key, whose digest is not the header's.
	if !headerOpens(t, b, key) || headerOpens(t, b, []byte("another")) {
		t.Error("the digest is not that of what the key opens, or of what another does")
	}
}

// headerOpens is the reader's half.
func headerOpens(t *testing.T, header, key []byte) bool {
	t.Helper()
	slotKey, err := pbkdf2.Key(sha256.New, string(key), header[216:248], luksRounds, luksKeyBytes)
	if err != nil {
		t.Fatal(err)
	}
	material := bytes.Clone(header[luksAlign : luksAlign+luksKeyBytes*luksStripes])
	for i := range len(material) / luksSector {
		xtsDecrypt(t, slotKey, uint64(i), material[i*luksSector:(i+1)*luksSector])
	}
	secret := luksFold(material)
	for i, b := range material[luksKeyBytes*(luksStripes-1):] {
		secret[i] ^= b
	}
	digest, err := pbkdf2.Key(sha256.New, string(secret[:]), header[132:164], luksRounds, 20)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(digest, header[112:132])
}

// xtsDecrypt undoes xtsEncrypt.
func xtsDecrypt(t *testing.T, key []byte, sector uint64, b []byte) {
	t.Helper()
	data, err := aes.NewCipher(key[:32])
	if err != nil {
		t.Fatal(err)
	}
	tweaks, err := aes.NewCipher(key[32:])
	if err != nil {
		t.Fatal(err)
	}
	var tweak [16]byte
	binary.LittleEndian.PutUint64(tweak[:], sector)
	tweaks.Encrypt(tweak[:], tweak[:])
	for ; len(b) > 0; b = b[16:] {
		subtle.XORBytes(b, b[:16], tweak[:])
		data.Decrypt(b, b)
		subtle.XORBytes(b, b[:16], tweak[:])
		low, high := binary.LittleEndian.Uint64(tweak[:]), binary.LittleEndian.Uint64(tweak[8:])
		binary.LittleEndian.PutUint64(tweak[:], low<<1^high>>63*0x87)
		binary.LittleEndian.PutUint64(tweak[8:], high<<1|low>>63)
	}
}

func TestADiskIsWrittenWithItsHeaderWhereItsPointerSays(t *testing.T) {
	for _, size := range []int64{1 << 20, 1 << 30, 2000 << 30} {
		f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		if err := (QemuImg{}).Format(t.Context(), f, size, []byte("key")); err != nil {
			t.Fatal(err)
		}
		r, err := cryptoHeader(f)
		if err != nil || r != (region{4 << 16, luksHeaderBytes}) {
			t.Errorf("%+v, %v", r, err)
		}
		b := make([]byte, 8)
		if _, err := f.ReadAt(b, r.Offset); err != nil || string(b) != "LUKS\xba\xbe\x00\x01" {
			t.Errorf("%q, %v", b, err)
		}
		_ = f.Close()
	}
	for _, size := range []int64{0, -512, 1000, 1 << 50} {
		if err := format(nil, nil, size, nil); err == nil {
			t.Errorf("a disk of %d bytes", size)
		}
	}
}
