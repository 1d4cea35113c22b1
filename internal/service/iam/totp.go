package iam

import (
	"fmt"

	"rsc.io/qr"

	"carrel/internal/totp"
)

// qrScale is the size of a module in pixels.
const qrScale = 6

// qrCode is what an authenticator app scans: the seed, and the name under which it is to be listed (IAM API reference, VirtualMFADevice).
func (s *Service) qrCode(device, account, seed string) ([]byte, error) {
	code, err := qr.Encode(totp.URI("Carrel", device+"@"+account, seed), qr.M)
	if err != nil {
		return nil, fmt.Errorf("iam: the QR code of device %s: %w", device, err)
	}
	code.Scale = qrScale
	return code.PNG(), nil
}
