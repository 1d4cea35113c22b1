package ds

import (
	"context"
	"regexp"
	"strings"

	"carrel/internal/api/ds"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

// DefaultMaxDirectories is how many directories of a kind an account has room for (aws-behaviour: quotas of Directory Service).
const DefaultMaxDirectories = 10

// stageRequested is the DirectoryStage with which a directory begins; the reconciler takes it from there.
const stageRequested = "Requested"

// CreateDirectory asks for a Simple AD directory: InvalidParameterException naming the member, DirectoryLimitExceededException.
func (s *Service) CreateDirectory(ctx context.Context, _ service.Call, in *ds.CreateDirectoryInput) (*ds.CreateDirectoryOutput, error) {
	id, err := s.create(ctx, &wish{
		spec: state.DirectorySpec{Type: string(ds.DirectoryTypeSimpleAD), Name: *in.Name, ShortName: shape.Val(in.ShortName), Description: shape.Val(in.Description),
			Size: string(*in.Size)},
		password: *in.Password, network: in.NetworkType, vpc: in.VpcSettings, tags: in.Tags,
	})
	if err != nil {
		return nil, err
	}
	return &ds.CreateDirectoryOutput{DirectoryId: &id}, nil
}

// CreateMicrosoftAD asks for a Microsoft AD directory, as CreateDirectory.
func (s *Service) CreateMicrosoftAD(ctx context.Context, _ service.Call, in *ds.CreateMicrosoftADInput) (*ds.CreateMicrosoftADOutput, error) {
	edition := ds.DirectoryEditionEnterprise
	if in.Edition != nil {
		edition = *in.Edition
	}
	id, err := s.create(ctx, &wish{
		spec: state.DirectorySpec{Type: string(ds.DirectoryTypeMicrosoftAD), Name: *in.Name, ShortName: shape.Val(in.ShortName), Description: shape.Val(in.Description),
			Edition: string(edition)},
		password: *in.Password, network: in.NetworkType, vpc: in.VpcSettings, tags: in.Tags,
	})
	if err != nil {
		return nil, err
	}
	return &ds.CreateMicrosoftADOutput{DirectoryId: &id}, nil
}

// wish is what the two kinds of directories that Carrel runs are asked for with.
type wish struct {
	spec     state.DirectorySpec
	password string
	network  *ds.NetworkType
	vpc      *ds.DirectoryVpcSettings
	tags     []ds.Tag
}

func (s *Service) create(ctx context.Context, w *wish) (string, error) {
	if err := w.check(); err != nil {
		return "", err
	}
	tags, err := readTags(w.tags)
	if err != nil {
		return "", err
	}
	if w.spec.ShortName == "" {
		label, _, _ := strings.Cut(w.spec.Name, ".")
		w.spec.ShortName = strings.ToUpper(label[:min(len(label), maxShortName)])
	}
	id := ident.NewDirectoryID(s.Rand)
	// Whatever a record holds is in the store's log and in backups for long after.
	w.spec.AdminPassword = state.Secret(s.Seal.Seal(w.password, string(id)))
	err = service.Update(ctx, s.DB, func(tx *state.Tx) error {
		if err := w.place(tx); err != nil {
			return err
		}
		count := 0
		for d := range state.All(tx, state.Directories) {
			if d.Spec.Type == w.spec.Type {
				count++
			}
		}
		if limit := s.MaxDirectories; limit > 0 && count >= limit {
			return awserr.Model("DirectoryLimitExceededException", "The maximum number of directories of type %s (%d) has been reached.", w.spec.Type, limit)
		}
		d := &state.Directory{ID: id, Spec: w.spec}
		d.Created, d.Tags = tx.Now(), tags
		d.Status.Stage, d.Status.StageSince = stageRequested, tx.Now()
		for _, subnet := range d.Spec.SubnetIDs {
			if rec, ok := state.Get(tx, state.Subnets, string(subnet)); ok {
				d.Status.Zones = append(d.Status.Zones, rec.Zone)
			}
		}
		state.Put(tx, state.Directories, d)
		return nil
	})
	if err != nil {
		return "", err
	}
	return string(id), nil
}

// maxShortName is the length of a NetBIOS name (MS-NBTE 2.2.1).
const maxShortName = 15

// shortName is what a NetBIOS domain name may be. Name is narrower than the model has it, too: it becomes a Kerberos realm and a DNS
// zone, and parts of it reach other programs.
var (
	shortName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,14}$`)
	domainName = regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)
)

func (w *wish) check() error {
	name := w.spec.Name
	switch {
	case !domainName.MatchString(name) || len(name) > 64:
		return badParameter("Name %q is not the name of a domain, such as corp.example.com, of at most 64 characters.", name)
	case w.spec.ShortName != "" && !shortName.MatchString(w.spec.ShortName):
		return badParameter("ShortName %q is not a NetBIOS name: at most %d letters, digits and hyphens.", w.spec.ShortName, maxShortName)
	case w.network != nil && *w.network != ds.NetworkTypeIPv4:
		return badParameter("NetworkType %s is not supported; IPv4 is.", *w.network)
	case w.vpc == nil:
		return badParameter("VpcSettings must be specified.")
	case len(w.vpc.SubnetIds) != 2 || w.vpc.SubnetIds[0] == w.vpc.SubnetIds[1]:
		return badParameter("VpcSettings.SubnetIds must name two subnets, not %d.", len(w.vpc.SubnetIds))
	}
	return nil
}

// place checks the subnets and writes them into the spec.
func (w *wish) place(tx *state.Tx) error {
	w.spec.VPCID = ident.VPCID(shape.Val(w.vpc.VpcId))
	if _, ok := state.Get(tx, state.VPCs, string(w.spec.VPCID)); !ok {
		return badParameter("VpcSettings.VpcId: VPC %s does not exist.", w.spec.VPCID)
	}
	w.spec.SubnetIDs = nil
	zones := map[string]bool{}
	for _, id := range w.vpc.SubnetIds {
		subnet, ok := state.Get(tx, state.Subnets, id)
		if !ok || subnet.VPCID != w.spec.VPCID {
			return badParameter("VpcSettings.SubnetIds: subnet %s does not exist in VPC %s.", id, w.spec.VPCID)
		}
		zones[subnet.Zone] = true
		w.spec.SubnetIDs = append(w.spec.SubnetIDs, subnet.ID)
	}
	if len(zones) != 2 {
		return badParameter("VpcSettings.SubnetIds: the two subnets must be in different Availability Zones.")
	}
	return nil
}

func badParameter(format string, args ...any) error {
	return awserr.Model("InvalidParameterException", format, args...)
}

// maxTags is how many tags a directory has room for.
const maxTags = 50

func readTags(list []ds.Tag) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	tags := make(map[string]string, len(list))
	for _, t := range list {
		key := shape.Val(t.Key)
		switch _, twice := tags[key]; {
		case twice:
			return nil, badParameter("Tags: the key %q is given twice.", key)
		case len(key) >= 4 && strings.EqualFold(key[:4], "aws:"):
			return nil, badParameter("Tags: keys that begin with aws: are reserved.")
		}
		tags[key] = shape.Val(t.Value)
	}
	if len(tags) > maxTags {
		return nil, badParameter("Tags: a directory has at most %d.", maxTags)
	}
	return tags, nil
}

// DeleteDirectory asks for a directory's end: EntityDoesNotExistException; ClientException while WorkSpaces has it registered.
func (s *Service) DeleteDirectory(ctx context.Context, _ service.Call, in *ds.DeleteDirectoryInput) (*ds.DeleteDirectoryOutput, error) {
	err := service.Update(ctx, s.DB, func(tx *state.Tx) error {
		d, ok := state.Get(tx, state.Directories, *in.DirectoryId)
		switch {
		case !ok:
			return noDirectory(*in.DirectoryId)
		case d.Registration != nil:
			// Terraform waits for these words to go away.
			return awserr.Model("ClientException", "Cannot delete the directory because it still has authorized applications. Additional directory details: %s", d.ID)
		case d.Status.Stage == stageDeleting:
			return nil
		}
		c := state.Clone(d)
		c.Spec.AdminPassword = ""
		c.Status.Stage, c.Status.StageSince, c.Status.StageReason = stageDeleting, tx.Now(), ""
		state.Put(tx, state.Directories, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ds.DeleteDirectoryOutput{DirectoryId: in.DirectoryId}, nil
}

const stageDeleting = "Deleting"

func noDirectory(id string) error {
	return awserr.Model("EntityDoesNotExistException", "Directory %s does not exist.", id)
}
