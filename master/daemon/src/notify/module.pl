# Calls processTableChanges of a Perl module for the changes on standard input. Arguments: the module's file, and
# folders for @INC. Each text on standard input is hexadecimal behind an x; u is no value.
use strict;
use warnings;

my ($file, @folders) = @ARGV;
unshift @INC, @folders;
my ($name) = $file =~ m{([^/]+)\.pm$} or die "$file: no Perl module\n";
require $file;
my $call = "xCAT_monitoring::$name"->can('processTableChanges')
    or die "$file: xCAT_monitoring::$name has no processTableChanges\n";

sub value { my $word = shift; return $word eq 'u' ? undef : pack 'H*', substr $word, 1 }

my ($action, $table, @old, %new);
while (my $line = <STDIN>) {
    my ($what, @words) = split ' ', $line;
    if ($what eq 'call') {
        ($action, $table) = @words;
        @old = ();
        %new = ();
    } elsif ($what eq 'row') {
        push @old, [map { value($_) } @words];
    } elsif ($what eq 'new') {
        $new{value($words[0])} = value($words[1]);
    } elsif ($what eq 'end') {
        $call->($action, $table, [@old], {%new});
    }
}
