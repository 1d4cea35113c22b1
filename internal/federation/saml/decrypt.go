package saml

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // OAEP does not need collisions to be hard to find.
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/beevik/etree"
)

// Namespaces and algorithms of XML encryption 1.1. Ciphers without authentication and PKCS #1 v1.5 are not taken: the difference between one
// refusal and another has decrypted both.
const (
	nsEncryption   = "http://www.w3.org/2001/04/xmlenc#"
	nsEncryption11 = "http://www.w3.org/2009/xmlenc11#"
	oaepMGF1       = nsEncryption + "rsa-oaep-mgf1p"
	oaep           = nsEncryption11 + "rsa-oaep"
)

var (
	contentKeys = map[string]int{nsEncryption11 + "aes128-gcm": 16, nsEncryption11 + "aes192-gcm": 24, nsEncryption11 + "aes256-gcm": 32}
	oaepDigests = map[string]crypto.Hash{
		"": crypto.SHA1, nsSignature + "sha1": crypto.SHA1, nsEncryption + "sha256": crypto.SHA256, nsEncryption + "sha512": crypto.SHA512,
	}
	oaepMasks = map[string]crypto.Hash{
		"": crypto.SHA1, nsEncryption11 + "mgf1sha1": crypto.SHA1, nsEncryption11 + "mgf1sha256": crypto.SHA256, nsEncryption11 + "mgf1sha512": crypto.SHA512,
	}
)

// ParseKey reads a private key that decrypts assertions: RSA in PEM, PKCS #8 or #1.
func ParseKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("not PEM")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return private, nil
}

// unseal decrypts an EncryptedAssertion with whichever of keys fits and reads the assertion in it, which is held to the same shape as one in
// the open.
func unseal(sealed *etree.Element, keys []*rsa.PrivateKey) (*etree.Element, error) {
	data := only(sealed, nsEncryption, "EncryptedData")
	if data == nil {
		return nil, errors.New("no EncryptedData")
	}
	method := only(data, nsEncryption, "EncryptionMethod")
	if method == nil {
		return nil, errors.New("no EncryptionMethod")
	}
	name, _ := attribute(method, "Algorithm")
	size, known := contentKeys[name]
	if !known {
		return nil, fmt.Errorf("encryption method %.80q", name)
	}
	ciphertext, err := cipherValue(data)
	if err != nil {
		return nil, err
	}
	key, err := contentKey(sealed, data, size, keys)
	if err != nil {
		return nil, err
	}
	plain, err := decryptGCM(key, ciphertext)
	if err != nil {
		return nil, err
	}
	assertion, err := reader{}.read(plain)
	if err != nil {
		return nil, err
	}
	if !is(assertion, nsAssertion, "Assertion") {
		return nil, errors.New("not an Assertion")
	}
	return assertion, checkStructure(assertion, nil, assertion, nil)
}

// contentKey decrypts the key, which stands beside the data or in its KeyInfo.
func contentKey(sealed, data *etree.Element, size int, keys []*rsa.PrivateKey) ([]byte, error) {
	wrapped := children(sealed, nsEncryption, "EncryptedKey")
	if info := only(data, nsSignature, "KeyInfo"); info != nil {
		wrapped = append(wrapped, children(info, nsEncryption, "EncryptedKey")...)
	}
	if len(wrapped) > 4 {
		return nil, errors.New("too many keys")
	}
	for _, w := range wrapped {
		digest, mask, err := oaepOf(only(w, nsEncryption, "EncryptionMethod"))
		if err != nil {
			return nil, err
		}
		ciphertext, err := cipherValue(w)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if plain, err := key.Decrypt(rand.Reader, ciphertext, &rsa.OAEPOptions{Hash: digest, MGFHash: mask}); err == nil && len(plain) == size {
				return plain, nil
			}
		}
	}
	return nil, errors.New("no key that decrypts")
}

// oaepOf reads which OAEP it is. The old name means SHA-1 in the mask whatever the digest.
func oaepOf(method *etree.Element) (digest, mask crypto.Hash, err error) {
	if method == nil {
		return 0, 0, errors.New("no EncryptionMethod of the key")
	}
	name, _ := attribute(method, "Algorithm")
	digestName, maskName := "", ""
	if e := only(method, nsSignature, "DigestMethod"); e != nil {
		digestName, _ = attribute(e, "Algorithm")
	}
	if e := only(method, nsEncryption11, "MGF"); e != nil && name == oaep {
		maskName, _ = attribute(e, "Algorithm")
	}
	digest, known := oaepDigests[digestName]
	mask, masked := oaepMasks[maskName]
	if name != oaep && name != oaepMGF1 || !known || !masked || only(method, nsEncryption, "OAEPparams") != nil {
		return 0, 0, fmt.Errorf("key encryption method %.80q", name)
	}
	return digest, mask, nil
}

func cipherValue(e *etree.Element) ([]byte, error) {
	value, plain := text(only(only(e, nsEncryption, "CipherData"), nsEncryption, "CipherValue"))
	if !plain {
		return nil, errors.New("no CipherValue")
	}
	return decodeBase64(value)
}

// decryptGCM is of an initialisation vector of 96 bits, the ciphertext and a tag of 128 (XML encryption 1.1 section 5.2.4).
func decryptGCM(key, ciphertext []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if len(ciphertext) < gcm.NonceSize() {
		return nil, errors.New("too short")
	}
	return gcm.Open(nil, ciphertext[:gcm.NonceSize()], ciphertext[gcm.NonceSize():], nil)
}
