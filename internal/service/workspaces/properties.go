package workspaces

import (
	"slices"
	"strings"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/state"
)

// The running modes.
const (
	autoStop = string(api.RunningModeAutoStop)
	alwaysOn = string(api.RunningModeAlwaysOn)
	manual   = string(api.RunningModeManual)
)

// autoStopMinutes is the timeout of an AUTO_STOP WorkSpace for which none is given, and the step of those that are.
const autoStopMinutes = 60

// maxKeyARN bounds VolumeEncryptionKey, which the model leaves unbounded; 2048 is the longest ARN that AWS accepts.
const maxKeyARN = 2048

// propertiesOf fills the spec's properties from the request and, where it names none, from the bundle. Without a running mode a
// WorkSpace is ALWAYS_ON.
func propertiesOf(spec *state.WorkspaceSpec, p *api.WorkspaceProperties, b *state.Bundle) *failure {
	spec.RunningMode = alwaysOn
	spec.RootGiB, spec.UserGiB, spec.Compute = b.RootGiB, b.UserGiB, b.Compute
	spec.Protocols, spec.OperatingSystem = slices.Clone(b.Protocols), b.OperatingSystem
	if p == nil {
		return nil
	}
	for _, part := range []func(*state.WorkspaceSpec, *api.WorkspaceProperties, *state.Bundle) *failure{
		runningMode, compute, volumes, software,
	} {
		if f := part(spec, p, b); f != nil {
			return f
		}
	}
	return nil
}

// runningMode sets mode and timeout. An explicit timeout of 0 is none.
func runningMode(spec *state.WorkspaceSpec, p *api.WorkspaceProperties, _ *state.Bundle) *failure {
	if p.RunningMode != nil {
		spec.RunningMode = string(*p.RunningMode)
	}
	minutes := int(shape.Val(p.RunningModeAutoStopTimeoutInMinutes))
	switch spec.RunningMode {
	case alwaysOn:
		if minutes != 0 {
			return &failTimeoutAlwaysOn
		}
	case manual:
		if minutes != 0 {
			return &failTimeoutManual
		}
	case autoStop:
		if p.RunningModeAutoStopTimeoutInMinutes == nil {
			minutes = autoStopMinutes
		}
		if minutes < autoStopMinutes || minutes%autoStopMinutes != 0 {
			return &failTimeout
		}
		spec.AutoStopMinutes = minutes
	}
	return nil
}

// interchangeable tells the compute types that a WorkSpace can change between; the others go only with their own bundles.
func interchangeable(name string) bool {
	switch api.Compute(name) {
	case api.ComputeValue, api.ComputeStandard, api.ComputePerformance, api.ComputePower, api.ComputePowerpro:
		return true
	}
	return false
}

func compute(spec *state.WorkspaceSpec, p *api.WorkspaceProperties, b *state.Bundle) *failure {
	if p.ComputeTypeName == nil {
		return nil
	}
	name := string(*p.ComputeTypeName)
	if name != b.Compute && !(interchangeable(name) && interchangeable(b.Compute)) {
		return &failCompute
	}
	spec.Compute = name
	return nil
}

// volumes sets the sizes. A bundle's own sizes are right whatever they are; others must be ones that AWS has.
func volumes(spec *state.WorkspaceSpec, p *api.WorkspaceProperties, b *state.Bundle) *failure {
	if p.RootVolumeSizeGib != nil {
		spec.RootGiB = int(*p.RootVolumeSizeGib)
	}
	if p.UserVolumeSizeGib != nil {
		spec.UserGiB = int(*p.UserVolumeSizeGib)
	}
	root, user := spec.RootGiB, spec.UserGiB
	if root == b.RootGiB && user == b.UserGiB {
		return nil
	}
	large := root >= 175 && root <= 2000 && user >= 100 && user <= 2000
	switch graphics := strings.HasPrefix(spec.Compute, "GRAPHICS"); {
	case graphics && !large && !(root == 100 && user == 100):
		return &failGraphicsVolumes
	case !graphics && !large && !(root == 80 && (user == 10 || user == 50 || user == 100)):
		return &failVolumes
	case root < b.RootGiB:
		return &failRootTooSmall
	}
	return nil
}

// software sets protocol and operating system, and refuses what Carrel does not have.
func software(spec *state.WorkspaceSpec, p *api.WorkspaceProperties, b *state.Bundle) *failure {
	if len(p.Protocols) > 0 {
		name := string(p.Protocols[0])
		if len(p.Protocols) > 1 || !slices.Contains(b.Protocols, name) {
			return &failProtocol
		}
		spec.Protocols = []string{name}
	}
	if p.OperatingSystemName != nil && string(*p.OperatingSystemName) != b.OperatingSystem {
		return &failSystem
	}
	if g := p.GlobalAccelerator; g != nil && shape.Val(g.Mode) == api.AGAModeForWorkSpaceEnumEnabledAuto {
		return &failAccelerator
	}
	return nil
}

// encryption sets which volumes are encrypted, with which key; without a key it is the one Carrel manages.
func encryption(spec *state.WorkspaceSpec, r *api.WorkspaceRequest) *failure {
	spec.EncryptRoot, spec.EncryptUser = shape.Val(r.RootVolumeEncryptionEnabled), shape.Val(r.UserVolumeEncryptionEnabled)
	spec.VolumeEncryptionKey = shape.Val(r.VolumeEncryptionKey)
	switch {
	case spec.VolumeEncryptionKey != "" && !spec.EncryptRoot && !spec.EncryptUser:
		return &failKeyUnused
	case len(spec.VolumeEncryptionKey) > maxKeyARN:
		return &failKeyTooLong
	}
	return nil
}
