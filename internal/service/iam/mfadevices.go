package iam

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/awserr"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/totp"
)

// CreateVirtualMFADevice makes a device that is nobody's yet. Only this answer carries the seed.
func (s *Service) CreateVirtualMFADevice(ctx context.Context, _ service.Call, in *iam.CreateVirtualMFADeviceInput) (*iam.CreateVirtualMFADeviceOutput, error) {
	if err := deviceTags.check(in.Tags); err != nil {
		return nil, err
	}
	tags := deviceTags.merge(nil, in.Tags)
	seed, err := totp.NewSeed(s.Rand)
	if err != nil {
		return nil, awserr.Fault(err)
	}
	d := state.MFADevice{Name: shape.Val(in.VirtualMFADeviceName), Path: cmp.Or(shape.Val(in.Path), "/"), Seed: state.Secret(seed)}
	d.Serial = arn.Of(s.Partition, s.AccountID, "mfa", d.Path+d.Name).String()
	const longest = 256 // serialNumberType: with a longer one nothing could be done
	if len(d.Serial) > longest {
		return nil, invalidInput("The path and the name of the device are together too long: its ARN may have %d characters.", longest)
	}
	code, err := s.qrCode(d.Name, cmp.Or(accountOf(s.DB.Snapshot()).Alias, s.AccountID), seed)
	if err != nil {
		return nil, awserr.Fault(err)
	}
	err = s.update(ctx, func(tx *state.Tx) error {
		if _, taken := state.Get(tx, state.MFADevices, d.Serial); taken {
			return alreadyExists("MFADevice entity at the same path and name already exists.")
		}
		if err := room(tx, state.MFADevices, "MFADevicesPerAccount", s.MaxUsers); err != nil {
			return err
		}
		rec := state.Clone(&d)
		rec.Created, rec.Tags = tx.Now(), tags
		state.Put(tx, state.MFADevices, rec)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateVirtualMFADeviceOutput{VirtualMFADevice: &iam.VirtualMFADevice{
		SerialNumber: &d.Serial, QRCodePNG: code, Tags: tagList(tags),
		Base32StringSeed: []byte(seed), // the one time
	}}, nil
}

// DeleteVirtualMFADevice removes a device that is nobody's.
func (s *Service) DeleteVirtualMFADevice(ctx context.Context, _ service.Call, in *iam.DeleteVirtualMFADeviceInput) (*iam.DeleteVirtualMFADeviceOutput, error) {
	return &iam.DeleteVirtualMFADeviceOutput{}, s.update(ctx, func(tx *state.Tx) error {
		d, err := findDevice(tx, in.SerialNumber)
		if err != nil {
			return err
		}
		if d.UserID != "" {
			return deleteConflict("MFA VirtualDevice in use. Must deactivate first.")
		}
		state.Delete(tx, state.MFADevices, d.Serial)
		return nil
	})
}

// ListVirtualMFADevices lists devices in the order of their serial numbers, without their seeds.
func (s *Service) ListVirtualMFADevices(_ context.Context, _ service.Call, in *iam.ListVirtualMFADevicesInput) (*iam.ListVirtualMFADevicesOutput, error) {
	snap := s.DB.Snapshot()
	var devices []*state.MFADevice
	for d := range state.All(snap, state.MFADevices) {
		switch shape.Val(in.AssignmentStatus) {
		case iam.AssignmentStatusTypeAssigned:
			if d.UserID == "" {
				continue
			}
		case iam.AssignmentStatusTypeUnassigned:
			if d.UserID != "" {
				continue
			}
		}
		devices = append(devices, d)
	}
	devices, next, err := page(sortedDevices(devices), deviceKey, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iam.ListVirtualMFADevicesOutput{VirtualMFADevices: make([]iam.VirtualMFADevice, 0, len(devices)), IsTruncated: shape.Ptr(next != nil), Marker: next}
	for _, d := range devices {
		shown := iam.VirtualMFADevice{SerialNumber: shape.Ptr(d.Serial), Tags: tagList(d.Tags)}
		if d.UserID != "" {
			shown.EnableDate = shape.Ptr(d.Enabled)
			if shown.User, err = s.deviceUser(snap, d); err != nil {
				return nil, err
			}
		}
		out.VirtualMFADevices = append(out.VirtualMFADevices, shown)
	}
	return out, nil
}

// deviceUser describes whose a device is.
func (s *Service) deviceUser(r state.Reader, d *state.MFADevice) (*iam.User, error) {
	if d.UserID == state.RootDevice {
		return s.describeRoot(r), nil
	}
	u, ok := state.Get(r, state.Users, d.UserID)
	if !ok {
		return nil, awserr.Fault(errNobodys(d.Serial)) // transactions do not let it happen
	}
	return s.describe(u), nil
}

func deviceKey(d *state.MFADevice) string { return d.Serial }

func sortedDevices(devices []*state.MFADevice) []*state.MFADevice {
	slices.SortFunc(devices, func(a, b *state.MFADevice) int { return strings.Compare(a.Serial, b.Serial) })
	return devices
}

// findDevice finds a device by its serial number.
func findDevice(r state.Reader, serial *string) (*state.MFADevice, error) {
	d, ok := state.Get(r, state.MFADevices, shape.Val(serial))
	if !ok {
		return nil, noSuchDevice(shape.Val(serial))
	}
	return d, nil
}

func taggedDevice(serial *string) taggable {
	return func(tx *state.Tx) (*state.Meta, func(), error) {
		found, err := findDevice(tx, serial)
		if err != nil {
			return nil, nil, err
		}
		d := state.Clone(found)
		return &d.Meta, func() { state.Put(tx, state.MFADevices, d) }, nil
	}
}

// TagMFADevice adds or replaces tags.
func (s *Service) TagMFADevice(ctx context.Context, _ service.Call, in *iam.TagMFADeviceInput) (*iam.TagMFADeviceOutput, error) {
	return &iam.TagMFADeviceOutput{}, s.tag(ctx, deviceTags, in.Tags, taggedDevice(in.SerialNumber))
}

// UntagMFADevice removes tags; keys that the device does not have are no error.
func (s *Service) UntagMFADevice(ctx context.Context, _ service.Call, in *iam.UntagMFADeviceInput) (*iam.UntagMFADeviceOutput, error) {
	return &iam.UntagMFADeviceOutput{}, s.untag(ctx, deviceTags, in.TagKeys, taggedDevice(in.SerialNumber))
}

// ListMFADeviceTags lists a device's tags.
func (s *Service) ListMFADeviceTags(_ context.Context, _ service.Call, in *iam.ListMFADeviceTagsInput) (*iam.ListMFADeviceTagsOutput, error) {
	d, err := findDevice(s.DB.Snapshot(), in.SerialNumber)
	if err != nil {
		return nil, err
	}
	tags, next, err := tagPage(d.Tags, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListMFADeviceTagsOutput{Tags: tags, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}
