# Calls a function of a monitoring plug-in that is a Perl module. Arguments: the module's file, the function, a folder
# for @INC. The names of nodes are on standard input, a line each. Ends with status 3 when there is no such function.
use strict;
use warnings;

my ($file, $function, @folders) = @ARGV;
@ARGV = ();
$| = 1;
unshift @INC, @folders;
my ($name) = $file =~ m{([^/]+)\.pm$} or die "$file: no Perl module\n";

# Modules ask this one for their settings; where xCAT is not installed, here they are.
unless (eval { require xCAT_monitoring::monitorctrl; 1 }) {
    $INC{'xCAT_monitoring/monitorctrl.pm'} = $0;
    no warnings 'once';
    *xCAT_monitoring::monitorctrl::getPluginSettings = sub {
        my %settings;
        for my $pair (split ' ', $ENV{MARGAY_SETTINGS_HEX} // '') {
            my ($key, $value) = map { pack 'H*', $_ } split /=/, $pair, 2;
            $settings{$key} = $value;
        }
        return %settings;
    };
}

require $file;
my $call = "xCAT_monitoring::$name"->can($function) or exit 3;
chomp(my @nodes = <STDIN>);
my $say = sub {
    my $answer = shift;
    for my $kind (qw(data info warning error)) {
        my $texts = $answer->{$kind} // next;
        for my $text (ref $texts eq 'ARRAY' ? @$texts : $texts) {
            print "$text\n" if !ref $text;
        }
    }
};
my @answer = $call->(\@nodes, $ENV{MARGAY_SCOPE} // 0, $say);
if ($function eq 'supportNodeStatusMon') {
    print $answer[0] ? "1\n" : "0\n";
} elsif ($function eq 'getDescription') {
    print $answer[0] // '', "\n";
} else {
    my ($code, $text) = @answer;
    print "$text\n" if defined $text && $text ne '';
    exit 1 if defined $code && $code =~ /^-?\d+$/ && $code != 0;
}
