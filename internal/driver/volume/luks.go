package volume

import (
	"crypto/aes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
)

// A LUKS header, version 1 (LUKS On-Disk Format Specification 1.2.3), as QEMU puts it into a qcow2 file: AES-256 in XTS mode with plain64 sectors and
// SHA-256. It is written here and not by qemu-img, which measures the processor for seconds to find how many rounds of key stretching take how
// long: a volume's key is 256 random bits, which no stretching makes better.
const (
	// luksKeyBytes is the master key's length: two keys of AES-256.
	luksKeyBytes = 64
	luksSlots    = 8
	// luksStripes: the master key is spread over so much key material that no disk keeps a spare copy of all of it.
	luksStripes  = 4000
	luksSaltSize = 32
	luksSector   = 512
	// luksAlign is where the header's parts begin: all others do it so.
	luksAlign = 4096
	// luksRounds is the least that QEMU itself would write.
	luksRounds = 1000

	luksSlotOn, luksSlotOff = 0x00ac71f3, 0x0000dead
	luksSlotBytes           = (luksKeyBytes*luksStripes + luksAlign - 1) / luksAlign * luksAlign
	luksHeaderBytes         = luksAlign + luksSlots*luksSlotBytes
)

// luksHeader makes a header with a fresh master key, that key opens.
func luksHeader(random io.Reader, key []byte) ([]byte, error) {
	secret := make([]byte, luksKeyBytes)
	defer clear(secret)
	var digestSalt, slotSalt [luksSaltSize]byte
	var id [16]byte
	for _, b := range [][]byte{secret, digestSalt[:], slotSalt[:], id[:]} {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, fmt.Errorf("LUKS header: %w", err)
		}
	}
	digest, err := pbkdf2.Key(sha256.New, string(secret), digestSalt[:], luksRounds, 20)
	if err != nil {
		return nil, fmt.Errorf("LUKS header: %w", err)
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // RFC 9562 version 4
	be := binary.BigEndian
	b := make([]byte, luksHeaderBytes)
	copy(b, "LUKS\xba\xbe\x00\x01")
	copy(b[8:], "aes")
	copy(b[40:], "xts-plain64")
	copy(b[72:], "sha256")
	be.PutUint32(b[104:], luksHeaderBytes/luksSector) // where encrypted data begins
	be.PutUint32(b[108:], luksKeyBytes)
	copy(b[112:], digest)
	copy(b[132:], digestSalt[:])
	be.PutUint32(b[164:], luksRounds)
	copy(b[168:], fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]))
	for i := range luksSlots {
		slot := b[208+48*i:]
		be.PutUint32(slot, luksSlotOff)
		be.PutUint32(slot[40:], uint32((luksAlign+i*luksSlotBytes)/luksSector))
		be.PutUint32(slot[44:], luksStripes)
	}
	be.PutUint32(b[208:], luksSlotOn)
	be.PutUint32(b[212:], luksRounds)
	copy(b[216:], slotSalt[:])
	return b, luksFillSlot(random, b, secret, key)
}

// luksFillSlot spreads the master key over the first slot's key material and encrypts that under key.
func luksFillSlot(random io.Reader, header, secret, key []byte) error {
	material := header[luksAlign : luksAlign+luksKeyBytes*luksStripes]
	if _, err := io.ReadFull(random, material[:luksKeyBytes*(luksStripes-1)]); err != nil {
		return fmt.Errorf("LUKS header: %w", err)
	}
	luksSplit(material, secret)
	slotKey, err := pbkdf2.Key(sha256.New, string(key), header[216:216+luksSaltSize], luksRounds, luksKeyBytes)
	if err != nil {
		return fmt.Errorf("LUKS header: %w", err)
	}
	defer clear(slotKey)
	for sector := range len(material) / luksSector {
		if err := xtsEncrypt(slotKey, uint64(sector), material[sector*luksSector:(sector+1)*luksSector]); err != nil {
			return fmt.Errorf("LUKS header: %w", err)
		}
	}
	return nil
}

// luksSplit is the anti-forensic splitter (TKS1): material has random stripes but for the last, which is chosen so that all of them together give the secret.
func luksSplit(material, secret []byte) {
	d := luksFold(material)
	last := material[luksKeyBytes*(luksStripes-1):]
	for i := range last {
		last[i] = d[i] ^ secret[i]
	}
	clear(d[:])
}

// luksFold runs through all stripes but the last.
func luksFold(material []byte) (d [luksKeyBytes]byte) {
	h := sha256.New()
	for n := range luksStripes - 1 {
		for i := range d {
			d[i] ^= material[n*luksKeyBytes+i]
		}
		luksDiffuse(h, &d)
	}
	return d
}

// luksDiffuse spreads every bit of d over its part of it.
func luksDiffuse(h hash.Hash, d *[luksKeyBytes]byte) {
	var number [4]byte
	for i := range luksKeyBytes / sha256.Size {
		part := d[i*sha256.Size : (i+1)*sha256.Size]
		binary.BigEndian.PutUint32(number[:], uint32(i))
		h.Reset()
		_, _ = h.Write(number[:])
		_, _ = h.Write(part)
		h.Sum(part[:0])
	}
}

// xtsEncrypt encrypts one sector in place: AES-XTS (IEEE 1619) with the sector's number as plain64 tweak.
func xtsEncrypt(key []byte, sector uint64, b []byte) error {
	data, err := aes.NewCipher(key[:len(key)/2])
	if err != nil {
		return err
	}
	tweaks, err := aes.NewCipher(key[len(key)/2:])
	if err != nil {
		return err
	}
	var tweak [aes.BlockSize]byte
	binary.LittleEndian.PutUint64(tweak[:], sector)
	tweaks.Encrypt(tweak[:], tweak[:])
	for ; len(b) >= aes.BlockSize; b = b[aes.BlockSize:] {
		for i := range tweak {
			b[i] ^= tweak[i]
		}
		data.Encrypt(b, b)
		for i := range tweak {
			b[i] ^= tweak[i]
		}
		carry := byte(0) // Times x in GF(2^128).
		for i := range tweak {
			tweak[i], carry = tweak[i]<<1|carry, tweak[i]>>7
		}
		tweak[0] ^= 0x87 * carry
	}
	return nil
}

// format writes an empty qcow2 file (QEMU, docs/interop/qcow2.txt, version 3) of that virtual size with a LUKS header in it that key opens: header, refcount
// table, one refcount block and the first table, in a cluster each, then the LUKS header. What lies under it is said when it is opened.
func format(disk io.WriterAt, random io.Reader, bytes int64, key []byte) error {
	const (
		bits    = 16
		cluster = 1 << bits
		// A second table of one cluster maps this much.
		perEntry = cluster / 8 * cluster
		luksAt   = 4 * cluster
		clusters = 4 + (luksHeaderBytes+cluster-1)/cluster
	)
	entries := (bytes + perEntry - 1) / perEntry
	if bytes <= 0 || bytes%luksSector != 0 || entries*8 > cluster {
		return fmt.Errorf("a disk of %d bytes cannot be", bytes)
	}
	if random == nil {
		random = rand.Reader
	}
	luks, err := luksHeader(random, key)
	if err != nil {
		return err
	}
	b := make([]byte, clusters*cluster)
	be := binary.BigEndian
	copy(b, "QFI\xfb")
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], bits)
	be.PutUint64(b[24:], uint64(bytes))
	be.PutUint32(b[32:], qcow2LUKS)
	be.PutUint32(b[36:], uint32(entries))
	be.PutUint64(b[40:], 3*cluster) // first table
	be.PutUint64(b[48:], cluster)   // refcount table
	be.PutUint32(b[56:], 1)         // its clusters
	be.PutUint32(b[96:], 4)         // refcounts of 2^4 bits
	be.PutUint32(b[100:], 104)      // the header's length; an extension follows, then the end of extensions, which is zeros
	be.PutUint32(b[104:], cryptoExtension)
	be.PutUint32(b[108:], 16)
	be.PutUint64(b[112:], luksAt)
	be.PutUint64(b[120:], luksHeaderBytes)
	be.PutUint64(b[cluster:], 2*cluster)
	for i := range clusters {
		be.PutUint16(b[2*cluster+2*i:], 1)
	}
	copy(b[luksAt:], luks)
	_, err = disk.WriteAt(b, 0)
	return err
}
